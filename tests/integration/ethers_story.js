// What a dApp does with the contract through ethers; prints what it saw as JSON.
const { ethers } = require("ethers");
const [url, key, address, abi] = process.argv.slice(2);

async function main() {
  const provider = new ethers.JsonRpcProvider(url, undefined, { cacheTimeout: -1 });
  const wallet = new ethers.Wallet(key, provider);
  const lonja = new ethers.Contract(address, require(abi), wallet);
  const told = {
    chain: Number((await provider.getNetwork()).chainId),
    fees: (await provider.getFeeData()).maxFeePerGas > 0n,
  };
  const heard = new Promise((resolve) => {
    lonja.once("ModelRegistered", (_token, _publisher, cid) => resolve(cid));
  });
  const offers = [{ price: 5n, currency: ethers.ZeroAddress, duration: 60n }];
  const receipt = await (await lonja.registerModel("bafyethers", offers)).wait();
  told.status = receipt.status;
  told.block = (await provider.getBlock("latest", true)).prefetchedTransactions.length;
  await (await lonja.purchaseLicense(1n, 1n, wallet.address, { value: 5n })).wait();
  told.valid = await lonja.hasValidLicense(wallet.address, 1n);
  told.events = (await lonja.queryFilter(lonja.filters.LicensePurchased(1n), 0)).length;
  told.refused = await lonja.modelOf(99n).catch((error) => error.revert.name + error.revert.args);
  told.mismatch = await lonja.purchaseLicense
    .staticCall(1n, 1n, wallet.address, { value: 4n })
    .catch((error) => error.revert.name);
  told.heard = await heard;
  provider.destroy();
  console.log(JSON.stringify(told));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
