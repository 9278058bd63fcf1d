"""scikit-learn's own tests of its two classes, `linear_model/tests/test_logistic.py` as it is installed, on ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from standin.runs import Outcomes, differences, left_out, run

MODULE = "linear_model/tests/test_logistic.py"
LIST = Path(__file__).parent / "standin" / "left_out_of_test_logistic.txt"


@pytest.mark.long
def test_all_pass_but_those_that_are_left_out_with_a_reason(tmp_path: Path) -> None:
    """A test that fails and one on the list that passes are both faults; arrays of other namespaces take part."""
    outcomes = run("ours", [MODULE], tmp_path, arrays=True)
    assert not differences(outcomes, left_out(LIST, MODULE))
    assert len(outcomes.passed) >= 250


def test_a_list_is_compared_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# A reason.\ntest_a[1]\ntest_b\n\n# Another.\ntest_c\n")
    listed = left_out(path, "m.py")
    assert listed == {"m.py::test_a[1]": "A reason.", "m.py::test_b": "A reason.", "m.py::test_c": "Another."}
    agrees = Outcomes(frozenset(["m.py::test_d"]), dict.fromkeys(listed, "E  why"), 0)
    assert differences(agrees, listed) == []
    (told,) = differences(Outcomes(agrees.passed, agrees.failed | {"m.py::test_e": "E  why"}, 0), listed)
    assert told.startswith("fails: m.py::test_e")
    fewer = {test: text for test, text in agrees.failed.items() if test != "m.py::test_b"}
    assert differences(Outcomes(agrees.passed | {"m.py::test_b"}, fewer, 0), listed) == [
        "is left out, and does not fail: m.py::test_b"
    ]
    for wrong in ("test_a\n", "# A reason.\ntest_a\ntest_a\n"):
        path.write_text(wrong)
        with pytest.raises(AssertionError, match="test_a"):
            left_out(path, "m.py")


def test_ours_stand_where_theirs_stood() -> None:
    """Also in modules that took them before, and in those that take them later."""
    code = (
        "import sklearn.ensemble._stacking as early, gpureg, standin.substitute as plugin;"
        "plugin.substitute(plugin.classes('ours'));"
        "import sklearn.linear_model as room, sklearn.linear_model.tests.test_logistic as late;"
        "assert early.LogisticRegression is late.LogisticRegression is gpureg.LogisticRegression;"
        "assert room.LogisticRegressionCV is late.LogisticRegressionCV is gpureg.LogisticRegressionCV"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
