"""A model card: what a run's model was trained on, how λ was chosen, how good it is, and how to load it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpureg.atomic import replacing
from gpureg.data.labels import listed
from gpureg.errors import UsageError, named
from gpureg.model.linear import LinearModel
from gpureg.storage.directory import Run

METRICS = {
    "loss": "loss (nats)",
    "log_loss": "log loss",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "top5_accuracy": "top-5 accuracy",
    "roc_auc": "ROC AUC",
    "ece": "expected calibration error",
}


def write_card(run: Run, path: Path, index: int) -> Path:
    """Write the card of a run's model `index` as Markdown. Raises UsageError if `path` can't be written."""
    content = card(run, index).encode()
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise UsageError(
            f"{named('card', str(path))} can't be written ({error.strerror or error}); give another path."
        ) from error
    return path


def card(run: Run, index: int) -> str:
    """The Markdown of a run's model `index`."""
    model, result = run.model, run.result
    l2 = float(model.l2[index])
    sections = [
        (f"{result['dataset']}: {_kind(model.loss.name)}", _summary(run, l2)),
        ("Data", _data(run)),
        ("λ", _choice(run, index)),
        ("Metrics", _metrics(run, index)),
        ("Versions", _versions(run.environment)),
        ("How to load it", _loading(run, index)),
    ]
    lines: list[str] = []
    for level, (title, body) in enumerate(sections):
        lines += [f"{'#' if level == 0 else '##'} {_inline(title)}", "", *body, ""]
    return "\n".join(lines)


def _kind(task: str) -> str:
    return f"{task} regression"


def _summary(run: Run, l2: float) -> Iterator[str]:
    model = run.model
    K, D = len(model.classes), model.coef.shape[2]
    yield (
        f"A linear model of {K} classes and {D} features ({_kind(model.loss.name)}), λ = {l2:.6g}, trained by gpureg "
        f"{run.environment.get('gpureg', '?')} with the solver {run.result.get('solver', '?')}."
    )


def _data(run: Run) -> Iterator[str]:
    model, result = run.model, run.result
    yield f"- data set: {_inline(Path(str(run.config.get('dataset', result['dataset']))).name)}"
    yield f"- rows: {result['n_train']:,} for training, {result.get('n_val', 0):,} for validation"
    yield f"- classes: {_inline(listed([repr(name) for name in model.classes], 50))}"
    if model.loss.binary:
        yield f"- the positive class is {_inline(repr(model.classes[0]))}"
    if model.target is not None:
        yield f"- label column: {_inline(listed([model.target]))}"
    if model.image_shape is not None:
        yield f"- features: images of {model.image_shape[0]} x {model.image_shape[1]} pixels"
    elif model.feature_names is not None:
        yield f"- features: {_inline(listed(model.feature_names, 50))}"
    else:
        yield f"- features: {model.coef.shape[2]}, without names"
    plain = not model.offset.any() and bool((model.scale == 1).all())
    yield "- scaling: none" if plain else "- scaling: (x − offset) / scale, which are part of the model"


def _choice(run: Run, index: int) -> Iterator[str]:
    model, config, result = run.model, run.config, run.result
    l2 = float(model.l2[index])
    refit_of, selected = model.refit_of, result.get("selected")
    strength = ""
    if model.total_weight is not None and l2 > 0:
        strength = f", in scikit-learn's terms C = 1 / (2 λ S) = {1 / (2 * l2 * model.total_weight):.6g}"
    yield f"λ = {l2:.6g}, the factor of Σ w² in the cost{strength}."
    yield ""
    last = None if refit_of is None else selected  # it is of none of the λ that were tried
    tried = len({entry["l2"] for number, entry in enumerate(result["models"]) if number != last})
    if tried == 1:
        yield "It was given, not chosen among several."
    elif model.selected is None or index != model.selected:
        yield f"It was named when this card was written; {tried} λ were trained."
    else:
        by = f"{config['cv']}-fold cross-validation" if config.get("cv") else "the validation rows"
        if config.get("folds"):
            by = f"cross-validation on the folds that the column {_inline(str(config['folds']))} names"
        rule = "the largest λ within one standard error of the best" if config.get("select") == "1se" else "the best"
        yield f"It was chosen among {tried} λ by {by}: {rule} {config.get('score', 'loss')}."
    if refit_of is not None:
        yield (
            f"The chosen λ was {refit_of:.6g}; the model was then fitted again, at the same C, to the training and "
            "validation rows."
        )


def _metrics(run: Run, index: int) -> Iterator[str]:
    test = run.result.get("test")
    entry = _entry(run, index)
    rows = [
        (f"{part} {name}", entry.get(f"{key}_{name}"))
        for part, key in (("training", "train"), ("validation", "val"))
        for name in ("loss", "accuracy")
    ]
    yield "| metric | value |"
    yield "| --- | --- |"
    yield from (f"| {name} | {_number(value)} |" for name, value in rows)
    if test is None or index != run.model.index():
        return
    yield ""
    yield f"On {test['n']:,} test rows:"
    yield ""
    intervals: Mapping[str, Sequence[float]] = test.get("intervals") or {}
    yield f"| metric | value |{' 95% interval |' if intervals else ''}"
    yield f"| --- | --- |{' --- |' if intervals else ''}"
    for key, name in METRICS.items():
        if test.get(key) is not None:
            ends = intervals.get(key)
            interval = f" {_number(ends[0])} to {_number(ends[1])} |" if ends else " |" if intervals else ""
            yield f"| {name} | {_number(test[key])} |{interval}"


def _entry(run: Run, index: int) -> dict[str, Any]:
    """The entry of the result that belongs to a model of the model file: no fold, and of the same λ, rate and seed."""
    model, entries = run.model, run.result["models"]
    selected = run.result.get("selected")
    if selected is not None and index == model.selected:
        return dict(entries[selected])
    seed = None if model.seed is None or model.seed[index] < 0 else int(model.seed[index])
    for entry in entries:
        same = entry["l2"] == float(model.l2[index]) and entry.get("fold") is None and entry.get("seed") == seed
        if same and (model.lr is None or entry.get("lr") in (None, float(model.lr[index]))):
            return dict(entry)
    return {}


def _versions(environment: Mapping[str, Any]) -> Iterator[str]:
    yield f"- gpureg {environment.get('gpureg', '?')}, Python {environment.get('python', '?')}"
    yield from (f"- {name} {version}" for name, version in (environment.get("packages") or {}).items())
    if environment.get("device"):
        yield f"- trained on {environment['device']}"


def _loading(run: Run, index: int) -> Iterator[str]:
    others = "" if index == run.model.selected else f", model={index}"
    # as the caller named it; a path of this machine alone says nothing to another reader of the card
    name = run.directory.name if run.directory.is_absolute() else run.directory.as_posix()
    yield "```python"
    yield "import gpureg"
    yield ""
    yield f"model = gpureg.load_run({name!r}).model"
    yield f"model.predict_proba(X{others})  # {_rows(run.model)}"
    yield "```"
    yield ""
    yield "```"
    yield f"gpureg predict {name} new-rows.csv"
    yield "```"


def _rows(model: LinearModel) -> str:
    """What a model takes as rows."""
    encoding = model.encoding
    if encoding is None:
        return f"an array (N, {model.coef.shape[2]}), or a data frame of these columns"
    if encoding.names is None:
        return f"an array (N, {encoding.width})"
    if any(encoding.categories):
        return f"a data frame with the columns {', '.join(encoding.names)}"
    return f"an array (N, {encoding.width}), or a data frame of these columns"


def _inline(text: str) -> str:
    """Text that Markdown leaves as it is, on one line."""
    plain = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in plain)


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}"
