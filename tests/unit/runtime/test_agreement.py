from __future__ import annotations

import pytest

from node.runtime import agreement
from node.runtime.backend import Refused, TensorInfo
from postprocessors.specs import ClassificationOutput, RawOutput
from preprocessors.specs import ImageInput, TensorInput


class Graph:
    rows = None
    threads = 1

    def __init__(self, shape: tuple[int | None, ...], dtype: str = "float32") -> None:
        self.input = TensorInfo("pixels", dtype, shape)
        self.outputs = (TensorInfo("logits", "float32", (None, 10)), TensorInfo("other", "float32", (None,)))

    def run(self, rows: object, stop: object) -> dict[str, object]:
        raise AssertionError


def check(graph: Graph, spec: object, output: object = ClassificationOutput(), labels: object = None) -> None:
    agreement.check(graph, input_spec=spec, output_spec=output, labels=labels)  # type: ignore[arg-type]


PICTURE = ImageInput(size=(8, 6))


@pytest.mark.parametrize("shape", [(None, 3, 8, 6), (1, 3, 8, 6), (None, 3, None, None)])
def test_picture_that_fits_passes(shape: tuple[int | None, ...]) -> None:
    check(Graph(shape), PICTURE)


@pytest.mark.parametrize(
    ("graph", "spec", "text"),
    [
        (
            Graph((None, 3, 6, 8)),
            PICTURE,
            r"rows \[3, 8, 6\], the graph's input is 'pixels' float32 \[any, 3, 6, 8\]",
        ),
        (Graph((None, 8, 6, 3)), PICTURE, "layout"),
        (Graph((3, 8, 6)), PICTURE, "the first one counting rows"),
        (Graph((None, 3, 8, 6), "float16"), PICTURE, "gives float32, the graph's input is 'pixels' float16"),
        (Graph((None, 3, 8, 6)), ImageInput(size=(8, 6), name="image"), "name is 'image'"),
        (Graph((None, 4)), TensorInput(shape=[5]), r"rows \[5\]"),
        (Graph((None, 4)), TensorInput(shape=[4], dtype="int64"), "gives int64"),
    ],
)
def test_input_that_does_not_fit_is_explained(graph: Graph, spec: object, text: str) -> None:
    with pytest.raises(Refused, match=text) as caught:
        check(graph, spec)
    assert caught.value.code == "model_invalid"


def test_output_that_the_graph_does_not_have_is_explained() -> None:
    for output in (ClassificationOutput(name="probs"), RawOutput(names=["logits", "probs"])):
        with pytest.raises(Refused, match="names 'probs'; the graph's outputs are 'logits'"):
            check(Graph((None, 3, 8, 6)), PICTURE, output)


def test_number_of_labels_must_be_that_of_classes() -> None:
    check(Graph((None, 3, 8, 6)), PICTURE, labels=[str(n) for n in range(10)])
    with pytest.raises(Refused, match="9 labels"):
        check(Graph((None, 3, 8, 6)), PICTURE, labels=[str(n) for n in range(9)])
