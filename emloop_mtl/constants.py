"""Names that several parts agree on."""

TRAIN_STREAM = "train"
"""The stream that is trained on unless ``main_loop.train_stream_name`` says otherwise."""

ALL_STREAMS = "all"
"""Reserved name in ``epoch_data`` for averages over all streams."""

UID_SOURCE = "_uids_"
"""The source that identifies rows when a dataset names no other."""

MASK_SUFFIX = "_mask"
"""Appended to the name of a padded source: True where the value is padding."""

CONFIG_FILE = "config.yaml"
RUN_FILE = "run.yaml"
"""Records where the config and the modules it names came from."""

TRACE_FILE = "trace.yaml"
LOG_FILE = "train.log"
METRICS_FILE = "metrics.jsonl"
PROFILE_FILE = "profile.jsonl"
SCORES_FILE = "scores.json"
"""The scores of the streams that the section ``eval`` lists, computed when the training has finished."""

STUDY_FILE = "study.yaml"
"""Records where the config of a search came from."""

BEST_FILE = "best.yaml"
"""The config of the best trial of a search."""

CHECKPOINT_FOLDER = "checkpoints"
VERIFY_TAG = "verify-resume"
"""What the tags of the checkpoints begin with that ``emloop-mtl verify-resume`` keeps for itself."""

NOT_FINITE_FOLDER = "not_finite"
"""The batches that the model's ``update.on_nan`` has found."""

DEFAULT_OUTPUT_ROOT = "log"
