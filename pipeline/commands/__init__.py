"""The commands of `python -m pipeline`, one module each: `add` describes it to argparse, one function runs it.

Modules that bring Keras or TensorFlow are imported inside the functions: a wrong flag is answered at once.
"""

# Commands in the order of --help, and the module here that has each.
MODULES = {
    "run": "run",
    "resume": "run",
    "lr-find": "lr_find",
    "audit": "audit",
    "features": "features",
    "preview": "preview",
    "backbones": "backbones",
    "sample": "sample",
    "weights": "weights",
    "imagenet": "imagenet",
    "import": "versions.imports",
    "quantize": "versions.quantize",
    "evaluate": "evaluate",
    "compare": "evaluate",
    "score": "score",
    "show": "show",
    "verify": "versions.verify",
    "models": "versions.models",
    "runs": "runs",
    "promote": "versions.models",
    "rollback": "versions.models",
    "shadow": "versions.trials",
    "canary": "versions.trials",
    "sync": "versions.sync",
    "prune": "versions.prune",
}
