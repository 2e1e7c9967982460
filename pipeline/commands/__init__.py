"""The commands of `python -m pipeline`, one module each: `add` describes it to argparse, one function runs it.

Modules that bring Keras or TensorFlow are imported inside the functions: a wrong flag is answered at once.
"""

# Commands in the order of --help, and the module here that has each.
MODULES = {
    "run": "run",
    "resume": "run",
    "lr-find": "lr_find",
    "audit": "audit",
    "preview": "preview",
    "backbones": "backbones",
    "sample": "sample",
    "weights": "weights",
    "imagenet": "imagenet",
    "import": "imports",
    "quantize": "quantize",
    "evaluate": "evaluate",
    "compare": "evaluate",
    "score": "score",
    "show": "show",
    "verify": "verify",
    "models": "models",
    "runs": "runs",
    "promote": "models",
    "rollback": "models",
    "shadow": "trials",
    "canary": "trials",
    "prune": "prune",
}
