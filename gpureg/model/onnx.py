"""A linear model as ONNX: `X`, or the columns of a table, in; `label` and `probabilities` out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpureg.atomic import replacing
from gpureg.errors import UsageError, named
from gpureg.model.inputs import ML, OUTPUTS, steps_of
from gpureg.version import __version__

if TYPE_CHECKING:
    from gpureg.model.linear import LinearModel

Floats = npt.NDArray[np.floating]
OPSET, ML_OPSET, IR = 17, 3, 8  # of 2022: runtimes since then read them
TOLERANCE = 1e-6  # of a probability
SPREAD = 4.0  # deviations from the mean that a feature is expected to reach
UNIT = 2.0**-24  # the largest relative error of rounding to float32


@dataclass(frozen=True)
class Graph:
    """The steps from `x (N, F)`, float32 or float64, to a label and probabilities, as (operator, inputs, outputs,
    attributes), and their constants by name. Everything between is in float64.
    """

    constants: dict[str, npt.NDArray[Any]]
    nodes: tuple[tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Any]], ...]


def graph(
    classes: Sequence[Any], coef: npt.NDArray[Any], intercept: npt.NDArray[Any], offset: Floats, scale: Floats
) -> Graph:
    """The steps for weights `coef (K, F)`, `intercept (K,)` on `(x - offset) / scale`.

    K = 1: `classes` is (positive, negative), and positive is predicted above a logit of 0. Otherwise the most probable
    class, the first on a tie. Labels are int64 if all classes are whole numbers, else strings.
    """
    constants: dict[str, npt.NDArray[Any]] = {
        "offset": np.asarray(offset, np.float64),
        "scale": np.asarray(scale, np.float64),
        "coef": np.ascontiguousarray(np.asarray(coef, np.float64).T),
        "intercept": np.asarray(intercept, np.float64),
        "classes": label_array(classes),
    }
    return Graph(constants, tuple(_steps(len(coef) == 1)))


def label_array(classes: Sequence[Any]) -> npt.NDArray[Any]:
    """Classes as int64 if all are whole numbers that fit it, else as strings."""
    values = [value.item() if isinstance(value, np.generic) else value for value in classes]
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    if whole and all(-(2**63) <= value < 2**63 for value in values):
        return np.array(values, np.int64)
    return np.array([str(value) for value in values], object)


def _steps(binary: bool) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Any]]]:
    yield "Cast", ("x",), ("wide",), {"to": 11}  # double
    yield "Sub", ("wide", "offset"), ("centred",), {}
    yield "Div", ("centred", "scale"), ("scaled",), {}
    yield "MatMul", ("scaled", "coef"), ("products",), {}
    yield "Add", ("products", "intercept"), ("logits",), {}
    if binary:
        yield "Neg", ("logits",), ("negated",), {}
        yield "Concat", ("logits", "negated"), ("both",), {"axis": 1}
        yield "Sigmoid", ("both",), ("probabilities",), {}
        # logits of 0 are a tie, which goes to the negative class: the last of the two
        yield "ArgMax", ("both",), ("index",), {"axis": 1, "keepdims": 0, "select_last_index": 1}
    else:
        yield "Softmax", ("logits",), ("probabilities",), {"axis": 1}
        yield "ArgMax", ("logits",), ("index",), {"axis": 1, "keepdims": 0}
    yield "Gather", ("classes", "index"), ("label",), {"axis": 0}


def input_type(coef: npt.NDArray[Any], offset: Floats, scale: Floats) -> type[np.floating[Any]]:
    """float32, or float64 if rounding `x` to float32 could move a probability by more than 1e-6.

    Errors `δ_k` of the logits move a probability by at most `¼ max |δ_k - δ_j|` (¼ |δ| for one logit). The errors of
    rounding are independent, of standard deviation below `|x_j| 2⁻²⁴ / √3`; three deviations of their weighted sum are
    counted, at the `|x_j|` that lies four deviations of that feature from 0 beyond its mean. Pixels are whole numbers,
    which float32 holds.
    """
    if _pixels(offset, scale):
        return np.float32
    weights = np.asarray(coef, np.float64)
    if len(weights) > 1:  # what all logits share moves nothing
        weights = 2 * (weights - weights.mean(axis=0))
    largest = (np.abs(offset) + SPREAD * scale) / scale
    deviation = np.sqrt(np.square(weights * largest).sum(axis=1)) * UNIT / np.sqrt(3)
    return np.float64 if 3 * deviation.max(initial=0) / 4 > TOLERANCE else np.float32


def _pixels(offset: Floats, scale: Floats) -> bool:
    """Whether the scaling is `2 x / max - 1` with one whole max: that of images."""
    half = float(offset[0]) if len(offset) else 0.0
    return half > 0 and (2 * half).is_integer() and bool((offset == half).all() and (scale == half).all())


def write_onnx(model: LinearModel, path: Path, index: int) -> Path:
    """`LinearModel.to_onnx`: model `index` at `path`, written next to it and renamed."""
    content = onnx_bytes(model, index)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise UsageError(
            f"{named('onnx', str(path))} can't be written ({error.strerror or error}); give another path."
        ) from error
    return path


def onnx_bytes(model: LinearModel, index: int) -> bytes:
    """Model `index` as the bytes of an ONNX file. Raises UsageError if onnx is not installed or the model diverged."""
    onnx = _package()
    from onnx import TensorProto, helper, numpy_helper

    coef, intercept = model.weights(index)
    F, K = coef.shape[1], len(model.classes)
    steps = graph(model.classes, coef, intercept, model.offset, model.scale)
    begin = steps_of(model.encoding, F)
    wide = input_type(coef, model.offset, model.scale) is np.float64
    number, words_in = TensorProto.DOUBLE if wide else TensorProto.FLOAT, any(one.words for one in begin.inputs)
    given = [
        helper.make_tensor_value_info(one.name, TensorProto.STRING if one.words else number, ["N", one.width])
        for one in begin.inputs
    ]
    words = steps.constants["classes"].dtype == object
    label = helper.make_tensor_value_info("label", TensorProto.STRING if words else TensorProto.INT64, ["N"])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.DOUBLE, ["N", K])
    inner = {name: f"/{name}" for node in steps.nodes for name in (*node[1], *node[2]) if name not in OUTPUTS}
    nodes = [
        helper.make_node(operator, [inner.get(n, n) for n in inputs], [inner.get(n, n) for n in outputs], **attributes)
        for operator, inputs, outputs, attributes in (*begin.nodes, *steps.nodes)
    ]
    constants = [
        numpy_helper.from_array(value, inner.get(name, name))
        for name, value in (begin.constants | steps.constants).items()
    ]
    drawn = helper.make_graph(nodes, "gpureg", given, [label, probabilities], constants)
    made = helper.make_model(
        drawn,
        opset_imports=[helper.make_opsetid("", OPSET), *([helper.make_opsetid(ML, ML_OPSET)] if words_in else [])],
        ir_version=IR,
        producer_name="gpureg",
        producer_version=__version__,
    )
    helper.set_model_props(made, _properties(model, index))
    onnx.checker.check_model(made, full_check=True)
    content: bytes = made.SerializeToString(deterministic=True)
    return content


def _properties(model: LinearModel, index: int) -> dict[str, str]:
    """What a reader of the file needs in addition to the graph: the columns of `probabilities`, and those of `X`."""
    import json

    found = {"classes": json.dumps(list(model.classes)), "l2": repr(float(model.l2[index])), "task": model.loss.name}
    if model.feature_names is not None:
        found["feature_names"] = json.dumps(list(model.feature_names))
    return found


def _package() -> Any:
    try:
        import onnx
        import onnx.checker
    except ImportError:
        raise UsageError(
            "ONNX needs the package onnx, which is not installed. Install it with: pip install 'gpureg[onnx]'"
        ) from None
    return onnx
