"""Converters of the estimators for skl2onnx, so that pipelines with them become ONNX.

skl2onnx converts the classes that are registered with it. Ours are registered when skl2onnx is imported, before or
after this module, so no caller has to ask and nothing is imported for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

from gpureg.estimators.arrays import to_host
from gpureg.estimators.linear import FittedClassifier
from gpureg.model.onnx import graph, label_array

PACKAGE = "skl2onnx"


def register_with_skl2onnx(*kinds: type[FittedClassifier]) -> None:
    """Register the estimators `kinds` with skl2onnx: now if it has been imported, else as soon as it is."""
    if PACKAGE in sys.modules:
        _register(kinds)
    else:
        sys.meta_path.insert(0, _Finder(kinds))


def _register(kinds: Sequence[type[FittedClassifier]]) -> None:
    from skl2onnx import update_registered_converter

    options = {"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]}
    for kind in kinds:
        update_registered_converter(kind, f"Gpureg{kind.__name__}", _shapes, _convert, options=options)


def _shapes(operator: Any) -> None:
    """The types of the two outputs: labels (N,), probabilities (N, K) in the input's float type."""
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType, guess_tensor_type

    names = label_array(operator.raw_operator.classes_)
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = (StringTensorType if names.dtype == object else Int64TensorType)([rows])
    operator.outputs[1].type = type(guess_tensor_type(operator.inputs[0].type))([rows, len(names)])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """The steps of `gpureg.model.onnx.graph`; two classes as a softmax over the logits (0, z)."""
    from skl2onnx.common.data_types import guess_proto_type
    from skl2onnx.proto import onnx_proto

    fitted = operator.raw_operator
    coef, intercept = fitted._dense(), to_host(fitted.intercept_)
    if len(coef) == 1:
        coef, intercept = np.concatenate([np.zeros_like(coef), coef]), np.concatenate([[0.0], intercept])
    F = coef.shape[1]
    steps = graph(to_host(fitted.classes_).tolist(), coef, intercept, np.zeros(F), np.ones(F))
    label, probabilities = (output.full_name for output in operator.outputs)
    known = {"x": _one_input(scope, operator, container), "label": label}
    names = {name: known.get(name) or scope.get_unique_variable_name(name) for name in _names(steps.nodes)}
    kinds = {np.dtype(np.int64): onnx_proto.TensorProto.INT64, np.dtype(np.float64): onnx_proto.TensorProto.DOUBLE}
    for name, value in steps.constants.items():
        kind = kinds.get(value.dtype, onnx_proto.TensorProto.STRING)
        flat = value.reshape(-1).tolist()
        container.add_initializer(names[name], kind, list(value.shape), [_bytes(item) for item in flat])
    for kind, inputs, outputs, attributes in steps.nodes:
        container.add_node(
            kind,
            [names[name] for name in inputs],
            [names[name] for name in outputs],
            op_version=13,
            name=scope.get_unique_operator_name(f"gpureg_{kind}"),
            **attributes,
        )
    container.add_node(
        "Cast",
        names["probabilities"],
        probabilities,
        op_version=13,
        name=scope.get_unique_operator_name("gpureg_Cast"),
        to=guess_proto_type(operator.outputs[1].type),
    )


def _one_input(scope: Any, operator: Any, container: Any) -> str:
    """The features in one tensor: a data frame's columns come one by one."""
    names = [variable.full_name for variable in operator.inputs]
    if len(names) == 1:
        return str(names[0])
    together = scope.get_unique_variable_name("features")
    container.add_node(
        "Concat", names, together, op_version=13, name=scope.get_unique_operator_name("gpureg_Concat"), axis=1
    )
    return str(together)


def _names(nodes: Sequence[tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Any]]]) -> list[str]:
    return list(dict.fromkeys(name for _, inputs, outputs, _ in nodes for name in (*inputs, *outputs)))


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


class _Finder(MetaPathFinder):
    """Finds skl2onnx as Python would have, and registers the estimators once it has been imported."""

    def __init__(self, kinds: Sequence[type[FittedClassifier]]) -> None:
        self._kinds = kinds

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of skl2onnx with a loader that registers; None for any other module."""
        if fullname != PACKAGE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._kinds)
        return spec


class _Loader(Loader):
    """Another loader, after which the estimators are registered."""

    def __init__(self, loader: Any, kinds: Sequence[type[FittedClassifier]]) -> None:
        self._loader, self._kinds = loader, kinds

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the loader does it."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """As the loader does it; then register."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _register(self._kinds)
