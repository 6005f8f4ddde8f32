from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from postprocessors.base import Answer, OutputInvalid
from postprocessors.registry import OUTPUTS
from postprocessors.specs import ClassificationOutput

SCORES = np.log(np.array([[0.1, 0.6, 0.3]], np.float32))


def answer(
    scores: Any,
    *,
    labels: list[str] | None = None,
    top_k: int | None = None,
    threshold: float | None = None,
    **spec: Any,
) -> Answer:
    outputs = scores if isinstance(scores, dict) else {"logits": np.asarray(scores, np.float32)}
    post = OUTPUTS.create(ClassificationOutput(**spec), labels=labels)
    return post(outputs, top_k=top_k, threshold=threshold)


def predictions(*args: Any, **options: Any) -> Any:
    return msgspec.json.decode(answer(*args, **options).predictions_json)


def test_the_best_classes_come_first_with_their_names() -> None:
    assert predictions(SCORES, labels=["cat", "dog", "owl"], top_k=2) == [
        {"class": "dog", "confidence": pytest.approx(0.6, abs=1e-6), "class_id": 1},
        {"class": "owl", "confidence": pytest.approx(0.3, abs=1e-6), "class_id": 2},
    ]


def test_members_stand_in_the_published_order() -> None:
    assert answer(SCORES, top_k=1, labels=["a", "b"]).predictions_json.startswith(
        b'[{"class":"b","confidence":0.6,"class_id":1}'
    )


def test_entropy_is_in_nats() -> None:
    expected = -sum(p * math.log(p) for p in (0.1, 0.6, 0.3))
    assert answer(SCORES).entropy == pytest.approx(expected, abs=1e-5)
    assert answer(np.zeros((1, 8))).entropy == pytest.approx(math.log(8), abs=1e-5)


def test_sigmoid_classes_are_independent() -> None:
    found = predictions([[0, 2, -2]], activation="sigmoid")
    assert [entry["class_id"] for entry in found] == [1, 0, 2]
    assert [entry["confidence"] for entry in found] == pytest.approx([0.880797, 0.5, 0.119203], abs=1e-5)


def test_none_takes_the_scores_as_they_are() -> None:
    found = answer([[0.25, 0.75]], activation="none")
    assert [entry["confidence"] for entry in msgspec.json.decode(found.predictions_json)] == [0.75, 0.25]
    assert found.entropy == pytest.approx(0.5623, abs=1e-4)


def test_scores_that_are_no_distribution_have_no_entropy() -> None:
    assert answer([[-1, 2]], activation="none").entropy is None
    assert answer([[-1, 2], [0.5, 0.5]], activation="none").entropy is None


def test_several_rows_give_a_list_each() -> None:
    found = answer([[0, 9], [9, 0]], top_k=1)
    first, second = msgspec.json.decode(found.predictions_json)
    assert [first[0]["class_id"], second[0]["class_id"]] == [1, 0]
    assert found.entropy == pytest.approx([0.00123, 0.00123], abs=1e-4)


def test_the_caller_s_options_win_over_the_manifest_s() -> None:
    post = OUTPUTS.create(ClassificationOutput(top_k=1, threshold=0.5), labels=None)

    def found(top_k: int | None, threshold: float | None) -> list[int]:
        given = post({"y": SCORES}, top_k=top_k, threshold=threshold)
        return [entry["class_id"] for entry in msgspec.json.decode(given.predictions_json)]

    assert found(None, None) == [1]
    assert found(None, 0.9) == []
    assert found(3, None) == [1]
    assert found(3, 0.2) == [1, 2]
    assert found(3, 0.0) == [1, 2, 0]


def test_more_classes_than_there_are_is_all_of_them() -> None:
    assert len(predictions(SCORES, top_k=100)) == 3


def test_a_class_without_a_label_is_named_by_its_number() -> None:
    assert [entry["class"] for entry in predictions(SCORES, labels=["cat", "dog"])] == [
        "dog",
        "class_2",
        "cat",
    ]
    assert [entry["class"] for entry in predictions(SCORES)] == ["class_1", "class_2", "class_0"]


def test_labels_are_escaped() -> None:
    assert predictions(SCORES, labels=["", 'a "b"\n\\', "é"])[0]["class"] == 'a "b"\n\\'


def test_ties_go_to_the_smaller_class() -> None:
    assert [entry["class_id"] for entry in predictions([[1, 3, 3, 2]], top_k=3)] == [1, 2, 3]


def test_small_confidences_keep_their_digits() -> None:
    confidence = predictions([[0, 20]], top_k=2)[1]["confidence"]
    assert confidence == pytest.approx(2.0611537e-09, rel=1e-4)


def test_a_pooled_map_counts_as_classes() -> None:
    assert predictions(SCORES.reshape(1, 3, 1, 1))[0]["class_id"] == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8])
def test_other_dtypes_are_read(dtype: Any) -> None:
    scores = np.array([[1, 3, 2]], dtype)
    assert predictions({"y": scores})[0]["class_id"] == 1


def test_the_output_is_found_by_its_name() -> None:
    outputs = {"features": np.zeros((1, 4, 4), np.float32), "logits": SCORES}
    assert predictions(outputs, name="logits")[0]["class_id"] == 1
    with pytest.raises(OutputInvalid, match="names 'scores', but the model has 'features', 'logits'"):
        predictions(outputs, name="scores")


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (np.zeros((3,)), r"\[rows, classes\], the model gave \[3\]"),
        (np.zeros((1, 3, 2)), r"\[rows, classes\], the model gave \[1, 3, 2\]"),
        (np.zeros((1, 0)), r"the model gave \[1, 0\]"),
        ([[1, math.nan]], "NaN or infinite"),
        ([[0, 1], [1, math.nan]], "NaN or infinite"),
    ],
)
def test_scores_that_mean_nothing_are_an_error(scores: Any, says: str) -> None:
    with pytest.raises(OutputInvalid, match=says):
        answer(scores)


def test_an_infinite_score_without_activation_is_an_error() -> None:
    with pytest.raises(OutputInvalid, match="infinite"):
        answer([[1, math.inf]], activation="none")
