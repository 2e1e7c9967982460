"""pipeline/run_warnings.py: a run keeps its warnings, from any thread, and gives them by weight."""

import logging
import threading

from pipeline.audit.findings import Finding
from pipeline.run_warnings import RunWarning, Weight, collect_warnings, warn

log = logging.getLogger("pipeline.somewhere")


def test_warnings_come_back_by_weight_and_once() -> None:
    """The weightiest first; those of one weight in the order they came; one text once."""
    with collect_warnings() as found:
        warn(log, Weight.SPEED, "slow at %s", "float32")
        warn(log, Weight.IMAGES, "2 images are dark.")
        warn(log, Weight.FIGURES, "The gate was skipped.")
        warn(log, Weight.IMAGES, "1 image is tiny.")
        warn(log, Weight.IMAGES, "2 images are dark.")
        warn(log, Weight.LEAKAGE, "No group rule.")

    texts = [warning.text for warning in found.weighed()]
    expected = ["The gate was skipped.", "No group rule.", "2 images are dark.", "1 image is tiny.", "slow at float32"]
    assert expected == texts


def test_every_warning_is_kept() -> None:
    """Warnings of another thread, of the engine and without a weight are kept; notes and other libraries' are not."""
    with collect_warnings() as found:
        thread = threading.Thread(target=warn, args=(log, Weight.SPEED, "from a thread"))
        thread.start()
        thread.join()
        logging.getLogger("engine.runtimes.openvino").warning("%s runs at float32", "models/a/1")
        log.info("a note")
        logging.getLogger("elsewhere").warning("another's")
    log.warning("after the run")

    assert (
        RunWarning("models/a/1 runs at float32", Weight.EVALUATION),
        RunWarning("from a thread", Weight.SPEED),
    ) == found.weighed()


def test_findings_of_the_audit_have_a_weight() -> None:
    """Test images in training weigh more than groups, groups more than class sizes, those more than dark pictures."""
    codes = ("dark", "imbalance", "no_group_rule", "leaked_copies", "left_out")
    weights = [Finding("warning", code, "").weight for code in codes]

    assert [Weight.IMAGES, Weight.EVALUATION, Weight.LEAKAGE, Weight.FIGURES, Weight.IMAGES] == weights
