"""One training from a configuration to files: what `lonja train` does, without the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from training import config as configs
from training.config import Config
from training.diagnosis import Verdict, diagnose
from training.errors import PlanInvalid
from training.export import About, Exported, export, model_id_of
from training.final import said
from training.losses import BinaryCrossEntropy
from training.network import Network
from training.profile import profile
from training.report import Judged, Summary, html_page, png_picture
from training.splitting import Split, split
from training.stats import Progress, TrainingStats
from training.tables import Table, load
from training.trainer import Trainer

CHECKPOINT = "checkpoint.npz"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training left. `exported` is None where the network is of no use (`verdict` says why)."""

    stats: TrainingStats
    verdict: Verdict
    exported: Exported | None
    page: Path
    picture: Path


class Run:
    """A prepared training.

    Parameters
    ----------
    folder : all files go there; made where it is missing.

    Raises
    ------
    DataInvalid, PlanInvalid
    """

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.folder = config, folder
        data, asked = config.data, config.training
        self.table: Table = load(Path(data.file), target=data.target, task=data.task)
        self.split: Split = split(
            self.table, validation=data.validation, scale=data.scale == "standard", seed=asked.seed
        )
        validated = self.split.validation is not None
        loss = configs.loss(config, self.table, self.split.train[1])
        binary = isinstance(loss, BinaryCrossEntropy)
        layers = configs.layers(config, self.table)
        try:
            self.network = Network(self.table.x.shape[1], layers, seed=asked.seed)
        except MemoryError as error:
            raise PlanInvalid(f"the network does not fit into memory, take smaller layers: {error}") from None
        self.trainer = Trainer(
            self.network,
            loss,
            configs.settings(config, checkpoint=folder / CHECKPOINT, validated=validated),
            train=self.split.train,
            validation=self.split.validation,
            task="binary" if binary else self.table.task,
        )
        classes = self.table.classes or None
        self.trainer.stats.data = profile(
            self.split.train, self.split.validation, columns=self.table.columns, classes=classes
        )

    def resume(self) -> None:
        """Go on from the checkpoint in the folder. Raises `CheckpointInvalid`."""
        self.trainer.resume(self.folder / CHECKPOINT)

    def train(self, on_progress: Callable[[Progress], None] | None = None) -> Outcome:
        """Train, judge, and write all files."""
        stats = self.trainer.fit(on_progress)
        verdict = diagnose(stats)
        self.folder.mkdir(parents=True, exist_ok=True)
        summary = self._summary(stats, verdict)
        page, picture = self.folder / "report.html", self.folder / "report.png"
        page.write_text(html_page(summary), encoding="utf-8")
        picture.write_bytes(png_picture(summary))
        (self.folder / "report.json").write_bytes(self._json(summary))
        exported = self._export() if stats.final is not None else None
        return Outcome(stats, verdict, exported, page, picture)

    def about(self) -> About:
        """What the manifests say."""
        output, table = self.config.output, self.table
        stem = Path(self.config.data.file).stem
        final = self.trainer.stats.final
        scored = final.validation_score if final and final.validation_score is not None else None
        measure = "R squared" if table.task == "regression" else "accuracy"
        told = "" if scored is None else f"; {measure} {scored:.3f} on rows it did not learn from"
        return About(
            model_id=output.model_id or model_id_of(output.name or stem),
            name=output.name or stem,
            description=output.description
            or f"Tells {table.target} from {len(table.columns)} columns{told}.",
            columns=table.columns,
            target=table.target,
            classes=table.classes,
        )

    def _export(self) -> Exported:
        return export(
            self.network,
            self.folder,
            self.about(),
            inputs=self.split.inputs,
            outputs=self.split.outputs,
            check_on=self.split.train[0],
        )

    def _summary(self, stats: TrainingStats, verdict: Verdict) -> Summary:
        return Summary(
            title=f"Training of {self.about().name}",
            stats=stats,
            verdict=verdict,
            judged=self._judged(),
            classes=self.table.classes,
            facts=self._facts(stats),
        )

    def _judged(self) -> Judged:
        held = self.split.validation
        x, y = held if held is not None else self.split.train
        what = "validation rows" if held is not None else "training rows"
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = np.nan_to_num(self.network.predict(x))
            if self.table.task == "classification":
                return Judged(y, said(outputs, task=self.trainer.task).reshape(len(y)), what)
            scale = self.split.outputs
            back = [
                a[:, 0] if scale is None else a[:, 0] * scale.deviation[0] + scale.mean[0]
                for a in (y, outputs)
            ]
        return Judged(back[0], back[1], what)

    def _facts(self, stats: TrainingStats) -> list[tuple[str, str]]:
        table, final = self.table, stats.final
        measure = "R squared" if table.task == "regression" else "accuracy"
        facts = [
            ("task", f"{table.task} of {table.target}"),
            (
                "rows",
                f"{len(self.split.train[0])} to learn from, {len(self.split.validation_rows)} to judge by",
            ),
            ("network", f"{self.network.parameter_count} parameters, {len(table.columns)} inputs"),
            ("optimizer", f"{stats.optimizer}, rate {stats.rate:g}"),
            (
                "epochs",
                f"{len(stats.epochs)}" + (f", the best was {stats.best_epoch}" if stats.best_epoch else ""),
            ),
            ("seconds", f"{sum(epoch.seconds for epoch in stats.epochs):.2g}"),
        ]
        if final is not None:
            facts.append((f"training loss, {measure}", f"{final.loss:.4g}, {final.score:.4f}"))
            if final.validation_loss is not None and final.validation_score is not None:
                facts.append(
                    (
                        f"validation loss, {measure}",
                        f"{final.validation_loss:.4g}, {final.validation_score:.4f}",
                    )
                )
        return facts

    def _json(self, summary: Summary) -> bytes:
        """The same as data: verdict, statistics, and the confusion matrix."""
        told = {"verdict": summary.verdict, "facts": dict(summary.facts), "stats": summary.stats}
        if self.table.classes:
            counts = summary.judged.confusion(len(self.table.classes)).tolist()
            told["confusion"] = {"classes": self.table.classes, "counts": counts}
        return msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n"
