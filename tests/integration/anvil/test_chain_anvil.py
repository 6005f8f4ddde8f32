"""Against a real chain: contract accounts, outages and the stated bound of a revocation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from coincurve import PrivateKey

from node.addresses import address_from_bytes, keccak256
from node.chain.client import ChainClient
from node.chain.contract_signatures import ERC6492_SUFFIX
from node.chain.events import EventFollower
from node.chain.licenses import Licenses
from node.chain.registry import Registry
from node.chain.reverts import TEXTS
from node.chain.signatures import SignatureChecker
from node.chain.transactions import Account, OfferTerms, TransactionFailed, Transactions
from node.errors import ChainUnavailable, LicenseExpired, LicenseMissing, SignatureInvalid, StartupError
from node.settings import Settings
from node.types import Address, TokenId
from tests.conftest import Services
from tests.fakes.anvil import anvil
from tests.fakes.chain import LICENSEE, STRANGER
from tests.fakes.chain_world import LICENSEE_KEY, PUBLISHER_KEY, RealWorld, real_world
from tests.fakes.rpc import RpcPeer

pytestmark = pytest.mark.service("anvil")

CID = "bafkqaaa"
DIGEST = keccak256(b"something")

# A wallet whose isValidSignature(bytes32,bytes) says yes to a signature whose first word is the digest:
# CALLDATALOAD(4) EQ CALLDATALOAD(0x64), else revert. In front of it, the eleven bytes that deploy it.
WALLET = bytes.fromhex("6004356064351460 0e57600080fd5b63 1626ba7e60e01b60005260206000f3".replace(" ", ""))
WALLET_INIT = bytes.fromhex("601f80600b6000396000f3") + WALLET

# The deterministic deployer that anvil starts with: takes a salt and init code, and CREATE2s.
DEPLOYER = Address("0x4e59b44847b379578588920cA78FbF26c0B4956C")


@pytest.fixture(scope="module")
def anvil_url(services: Services) -> Iterator[str]:
    with anvil(services.path("anvil")) as url:
        yield url


@pytest.fixture
async def world(anvil_url: str) -> AsyncIterator[RealWorld]:
    async with real_world(anvil_url) as world:
        yield world


@pytest.fixture
async def token(world: RealWorld) -> TokenId:
    return await world.register_model(CID, [OfferTerms(price=10**16, duration=86_400)])


def account(world: RealWorld) -> Account:
    return world.publisher.account


class TestContractAccounts:
    async def test_a_deployed_one_is_asked_by_eip_1271(self, world: RealWorld) -> None:
        wallet = (await account(world).send(to=None, data=WALLET_INIT)).contract
        assert wallet is not None
        checker = SignatureChecker(world.chain)

        await checker.check(wallet, digest=DIGEST, signature=DIGEST)
        await checker.check(wallet, digest=DIGEST, signature=DIGEST + bytes(33))
        with pytest.raises(SignatureInvalid, match="does not accept"):
            await checker.check(wallet, digest=DIGEST, signature=bytes(65))

    async def test_a_contract_that_is_no_wallet_accepts_nothing(self, world: RealWorld) -> None:
        contract = world.client.contract.address
        with pytest.raises(SignatureInvalid, match="does not accept"):
            await SignatureChecker(world.chain).check(contract, digest=DIGEST, signature=DIGEST)

    async def test_an_account_without_code_accepts_nothing(self, world: RealWorld) -> None:
        with pytest.raises(SignatureInvalid):
            await SignatureChecker(world.chain).check(STRANGER, digest=DIGEST, signature=DIGEST)

    async def test_one_that_is_not_deployed_yet_is_asked_by_erc_6492(self, world: RealWorld) -> None:
        salt = keccak256(b"salt")
        wallet = address_from_bytes(
            keccak256(b"\xff" + bytes.fromhex(DEPLOYER[2:]) + salt + keccak256(WALLET_INIT))
        )
        codec = world.client.web3.codec

        def wrapped(inner: bytes) -> bytes:
            parts = [DEPLOYER, salt + WALLET_INIT, inner]
            return codec.encode(["address", "bytes", "bytes"], parts) + ERC6492_SUFFIX

        checker = SignatureChecker(world.chain)
        await checker.check(wallet, digest=DIGEST, signature=wrapped(DIGEST))
        assert not await world.chain.has_code(wallet)
        with pytest.raises(SignatureInvalid):
            await checker.check(wallet, digest=DIGEST, signature=wrapped(bytes(65)))
        with pytest.raises(SignatureInvalid):
            await checker.check(STRANGER, digest=DIGEST, signature=wrapped(DIGEST))

    async def test_a_wrapped_signature_of_a_key_is_checked_as_the_key_s(self, world: RealWorld) -> None:
        raw = PrivateKey(LICENSEE_KEY).sign_recoverable(DIGEST, hasher=None)
        signature = raw[:64] + bytes([raw[64] + 27])
        codec = world.client.web3.codec
        inner = [DEPLOYER, bytes(32) + WALLET_INIT, signature]
        wrapped = codec.encode(["address", "bytes", "bytes"], inner) + ERC6492_SUFFIX

        # nothing is deployed at a key's address, so the validator refuses the wrapping
        with pytest.raises(SignatureInvalid):
            await SignatureChecker(world.chain).check(LICENSEE, digest=DIGEST, signature=wrapped)


class TestOutage:
    async def test_the_rpc_killed_and_back(self, services: Services) -> None:
        program = services.path("anvil")
        with anvil(program) as url:
            async with RpcPeer(behind=url) as peer, real_world(url) as world:
                token = await world.register_model(CID, [])
                await world.grant(token, LICENSEE, duration=0)
                settings = Settings(
                    avalanche_rpc_url=(peer.url,),
                    contract_address=world.client.contract.address,
                    license_confirmations=0,
                )
                client = await ChainClient.connect(settings)
                licenses = Licenses(client, settings)
                await licenses.require(LICENSEE, token)

                peer.mode = "broken"
                await licenses.require(LICENSEE, token)  # remembered
                with pytest.raises(ChainUnavailable) as outage:
                    await licenses.require(STRANGER, token)
                assert (outage.value.retry_after or 0) >= 1
                licenses.invalidate()
                with pytest.raises(ChainUnavailable):
                    await licenses.require(LICENSEE, token)
                with pytest.raises(ChainUnavailable):
                    await client.ready()

                peer.mode = "ok"
                async with asyncio.timeout(20):
                    while client.rpc.endpoints[0].breaker.open:
                        await asyncio.sleep(client.rpc.endpoints[0].breaker.seconds_left())
                        await asyncio.gather(client.ready(), return_exceptions=True)
                await licenses.require(LICENSEE, token)
                with pytest.raises(LicenseMissing):
                    await licenses.require(STRANGER, token)
                await client.close()

    async def test_the_second_rpc_takes_over_in_mid_flight(self, anvil_url: str, world: RealWorld) -> None:
        async with RpcPeer(behind=anvil_url) as first, RpcPeer(behind=anvil_url) as second:
            settings = Settings(
                avalanche_rpc_url=(first.url, second.url),
                contract_address=world.client.contract.address,
                rpc_timeout=500,
            )
            client = await ChainClient.connect(settings)
            for mode in ("ok", "hang", "garbage", "status-500", "ok"):
                first.mode = mode
                assert await client.total_models() == 0
            assert second.posts > 5
            await client.close()

    async def test_an_outage_while_a_contract_account_is_asked_is_not_an_invalid_signature(
        self, anvil_url: str, world: RealWorld
    ) -> None:
        wallet = (await account(world).send(to=None, data=WALLET_INIT)).contract
        assert wallet is not None
        async with RpcPeer(behind=anvil_url) as peer:
            client = await ChainClient.connect(
                Settings(avalanche_rpc_url=(peer.url,), contract_address=world.client.contract.address)
            )
            checker = SignatureChecker(client)
            await checker.check(wallet, digest=DIGEST, signature=DIGEST)
            for mode in ("status-429", "garbage"):
                peer.mode = mode
                with pytest.raises(ChainUnavailable):
                    await checker.check(wallet, digest=DIGEST, signature=DIGEST)
            await client.close()

    async def test_a_contract_address_without_contract_stops_the_start(self, anvil_url: str) -> None:
        with pytest.raises(StartupError, match="no contract"):
            await ChainClient.connect(Settings(avalanche_rpc_url=(anvil_url,), contract_address=STRANGER))
        with pytest.raises(StartupError, match="not a Lonja contract"):
            await ChainClient.connect(Settings(avalanche_rpc_url=(anvil_url,), contract_address=DEPLOYER))
        with pytest.raises(StartupError, match="31337"):
            await ChainClient.connect(
                Settings(avalanche_rpc_url=(anvil_url,), contract_address=DEPLOYER, chain_id=43114)
            )


class TestBound:
    async def test_a_revocation_is_honoured_within_a_block_and_two_seconds(
        self, world: RealWorld, token: TokenId
    ) -> None:
        await world.grant(token, LICENSEE, duration=0)
        licenses = Licenses(world.chain, Settings(license_confirmations=0))
        follower = EventFollower(world.chain, licenses)
        following = asyncio.create_task(follower.run())
        await follower.caught_up.wait()
        await asyncio.sleep(0.1)
        await licenses.require(LICENSEE, token)

        await world.revoke(token, LICENSEE)  # returns when it is in a block
        revoked = time.monotonic()
        refused_after = float("inf")
        async with asyncio.timeout(10):
            while refused_after == float("inf"):
                try:
                    await licenses.require(LICENSEE, token)
                    await asyncio.sleep(0.01)
                except LicenseExpired:
                    refused_after = time.monotonic() - revoked
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

        assert refused_after < 2.0

    async def test_ten_thousand_concurrent_first_checks_are_one_http_request(
        self, anvil_url: str, world: RealWorld, token: TokenId
    ) -> None:
        await world.grant(token, LICENSEE, duration=0)
        await world.mine(2)
        async with RpcPeer(behind=anvil_url) as peer:
            for confirmations in (0, 1):
                settings = Settings(
                    avalanche_rpc_url=(peer.url,),
                    contract_address=world.client.contract.address,
                    license_confirmations=confirmations,
                )
                client = await ChainClient.connect(settings)
                licenses = Licenses(client, settings)
                before = peer.posts
                await asyncio.gather(*(licenses.require(LICENSEE, token) for _ in range(10_000)))
                assert peer.posts - before == 1
                await client.close()


class TestTransactions:
    async def test_buying_pays_the_publisher_who_collects(self, world: RealWorld, token: TokenId) -> None:
        (offer,) = await Registry(world.chain).offers(token)
        await world.purchase(token, offer, licensee=LICENSEE)
        await world.advance(86_401)
        owed = await world.publisher.withdrawable()
        before = await world.publisher.account.balance()
        await world.publisher.withdraw()

        assert owed == 10**16
        assert await world.publisher.account.balance() > before
        with pytest.raises(TransactionFailed) as nothing:
            await world.publisher.withdraw()
        assert nothing.value.reason == "Lonja_NothingToWithdraw"

    async def test_a_revocation_refunds_the_rest(self, world: RealWorld, token: TokenId) -> None:
        (offer,) = await Registry(world.chain).offers(token)
        await world.purchase(token, offer, licensee=STRANGER)
        await world.revoke(token, STRANGER)
        refund = await world.licensee.withdrawable()
        assert 0.9 * 10**16 < refund <= 10**16

    async def test_refusals_are_told_in_words(self, world: RealWorld, token: TokenId) -> None:
        stranger = Transactions(world.client, LICENSEE_KEY)
        with pytest.raises(TransactionFailed, match=f"does not own token {token}") as refused:
            await stranger.update_model(token, CID)
        assert refused.value.tx is None
        with pytest.raises(TransactionFailed, match="no model with token id 99"):
            await stranger.grant(TokenId(99), STRANGER, duration=1)

    async def test_an_account_without_coin_is_told_so(self, world: RealWorld, token: TokenId) -> None:
        (offer,) = await Registry(world.chain).offers(token)
        poor = Transactions(world.client, keccak256(b"poor"))
        with pytest.raises(TransactionFailed, match="not enough native coin"):
            await poor.purchase(token, offer)

    async def test_concurrent_transactions_of_one_account_all_arrive(
        self, world: RealWorld, token: TokenId
    ) -> None:
        people = [address_from_bytes(keccak256(bytes([i]))) for i in range(8)]
        receipts = await asyncio.gather(*(world.grant(token, one, duration=0) for one in people))
        assert len({receipt.tx for receipt in receipts}) == 8
        licenses = Licenses(world.chain, Settings(license_confirmations=0))
        for one in people:
            assert (await licenses.require(one, token)).perpetual

    def test_every_error_of_the_contract_has_words(self) -> None:
        from node.chain.abi import artifact

        ours = {e["name"]: e for e in artifact()["abi"] if e["type"] == "error"}
        assert {name for name in ours if name.startswith("Lonja_")} <= set(TEXTS)
        for name, text in TEXTS.items():
            text.format(**{i["name"]: 1 for i in ours[name]["inputs"]})


def test_the_publisher_key_is_the_publisher_s() -> None:
    key = PrivateKey(PUBLISHER_KEY).public_key.format(compressed=False)[1:]
    assert address_from_bytes(keccak256(key)) == "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
