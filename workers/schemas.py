"""The columns of the store's tables. Columns are added, never reinterpreted."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 2
"""1: a file per cell. 2: there may be merged files, of the rows of many cells."""

_string, _int, _float, _time = pa.string(), pa.int64(), pa.float64(), pa.timestamp("us", tz="UTC")
_bool = pa.bool_()

_CODE = [
    ("torch_version", _string),
    ("timm_version", _string),
    ("ray_version", _string),
    ("rib_version", _string),
    ("git_commit", _string),
]
"""What made a row."""

ACCURACY = pa.schema(
    [
        # What was measured: one row per cell, epoch and evaluation split.
        ("suite", _string),
        ("model", _string),
        ("pretraining", _string),
        ("downstream", _string),  # null for a baseline
        ("method", _string),
        ("seed", _int),
        ("cell_id", _string),
        ("epoch", _int),  # null for the finished cell
        ("eval_dataset", _string),
        ("corruption", _string),
        ("severity", _int),
        # Counts, not percentages. n_total images were scored, n_expected should have been.
        ("n_correct", _int),  # over the data set's own classes (its class mask)
        ("n_correct_unmasked", _int),  # over the whole label space
        ("n_total", _int),
        ("n_expected", _int),
        ("loss", _float),  # mean cross-entropy over n_total, with the class mask
        # Which part of the images an epoch's rows are of (workers.curve); null for a finished cell.
        ("subset_fraction", _float),
        ("subset_seed", _int),
        ("subset_digest", _string),  # of the names and labels of its images
        # Provenance.
        ("hyperparameters", _string),  # JSON
        ("recipe", _string),  # JSON, null where nothing is trained
        ("suite_version", _string),
        ("dataset_digest", _string),
        ("transform_digest", _string),
        ("weights_digest", _string),
        ("precision", _string),
        ("device", _string),
        *_CODE,
        ("attempt", _int),
        ("started_at", _time),
        ("finished_at", _time),
    ]
)

ATTEMPTS = pa.schema(
    [
        # One row per try at a cell.
        ("cell_id", _string),
        ("attempt", _int),
        ("model", _string),
        ("downstream", _string),
        ("method", _string),
        ("seed", _int),
        ("state", _string),  # running, done, failed, diverged
        ("error_kind", _string),
        ("message", _string),
        ("traceback", _string),
        ("host", _string),
        ("pid", _int),
        ("gpu", _string),
        ("seconds", _float),
        ("peak_memory_bytes", _int),
        ("started_at", _time),
        ("finished_at", _time),
        # What it had, which after running out of memory is not what the grid says.
        ("micro_batches", _int),  # parts that each batch was cut into
        ("loader_workers", _int),
        ("memory_bytes", _int),  # of the host, reserved; null if none was
    ]
)

CLEARED = pa.schema(
    [
        # One row per failure that `rib retry` cleared: from then on the cell's tries up to this
        # one do not count. One file per use of it.
        ("clearing", _string),
        ("cell_id", _string),
        ("attempt", _int),
        ("error_kind", _string),
        ("cleared_by", _string),
        ("cleared_at", _time),
    ]
)

HISTORY = pa.schema(
    [
        # One row per cell and epoch of training; epochs count from 1.
        ("cell_id", _string),
        ("epoch", _int),
        ("loss", _float),  # mean training loss, penalties included
        ("n_correct", _int),  # on the training batches, as the weights were then
        ("n_total", _int),
        ("lr", _float),  # at the epoch's last step
        ("seconds", _float),
        ("held_out_correct", _int),  # after the epoch; null unless the recipe has patience
        ("held_out_total", _int),
        ("finished_at", _time),  # when the training was committed: the last one of a cell counts
    ]
)

TUNING = pa.schema(
    [
        # One row per trial of a search of hyper-parameters (`rib tune`), once it has ended.
        ("search", _string),
        ("trial", _int),  # 0 has the grid's own values
        ("suite", _string),
        ("suite_version", _string),
        ("model", _string),
        ("pretraining", _string),
        ("downstream", _string),
        ("method", _string),
        ("seed", _int),
        ("cell_id", _string),  # what it was trained as; it holds images out
        ("configuration", _string),  # JSON: what differs from the grid's own values
        ("hyperparameters", _string),  # JSON
        ("recipe", _string),  # JSON
        ("state", _string),  # done, stopped (for being behind others), diverged, failed
        ("epochs", _int),
        ("best_epoch", _int),  # of the highest held-out accuracy, the first of equals
        # Of the model that training left; where it was stopped, of the last epoch.
        ("held_out_correct", _int),
        ("held_out_total", _int),
        # Right ones after each epoch; lists are named as Parquet names them.
        ("held_out_by_epoch", pa.list_(pa.field("element", _int))),
        ("seconds", _float),
        ("error_kind", _string),
        ("message", _string),
        ("traceback", _string),
        ("dataset_digest", _string),
        ("transform_digest", _string),
        ("weights_digest", _string),
        ("host", _string),
        ("gpu", _string),
        ("device", _string),
        *_CODE,
        ("started_at", _time),
        ("finished_at", _time),
    ]
)

DISTANCES = pa.schema(
    [
        # One row per distance between the ID set and a downstream set (`rib distance`).
        ("cell_id", _string),  # of the distance: what `attempts` calls it, too
        ("suite", _string),
        ("suite_version", _string),
        ("model", _string),  # in whose feature space
        ("pretraining", _string),
        ("method", _string),  # otdd
        ("reference", _string),  # the ID set
        ("downstream", _string),
        ("seed", _int),  # of the samples
        # In the unit of the cost, half a squared distance between features.
        ("value", _float),  # cross - (own_reference + own_downstream) / 2
        ("cross", _float),
        ("own_reference", _float),
        ("own_downstream", _float),
        ("mean_cost", _float),  # between two images of the reference set
        ("epsilon", _float),  # as it was asked for
        ("epsilon_unit", _string),  # of that: id-cost (mean_cost), cost
        ("epsilon_cost", _float),  # in the unit of the cost
        ("covariance", _string),  # of the classes' Gaussians: diagonal, shrunk
        ("samples_reference", _int),  # images that were compared
        ("samples_downstream", _int),
        ("images_reference", _int),  # images that the sets have
        ("images_downstream", _int),
        ("classes_reference", _int),
        ("classes_downstream", _int),
        ("dimensions", _int),  # of the features
        ("iterations", _int),  # of the solver, for all three parts
        ("marginal_error", _float),  # the largest of the three parts
        ("tolerance", _float),
        ("converged", _bool),  # what has not is a failed try, and no row
        # Provenance.
        ("hyperparameters", _string),  # JSON: the settings
        ("reference_digest", _string),
        ("dataset_digest", _string),  # of the downstream set
        ("transform_digest", _string),
        ("weights_digest", _string),
        ("solver", _string),
        ("device", _string),
        ("host", _string),
        *_CODE,
        ("attempt", _int),
        ("started_at", _time),
        ("finished_at", _time),
    ]
)

_classes = pa.list_(pa.field("element", pa.int16()))

PREDICTIONS = pa.schema(
    [
        # One row per cell, evaluation split and image. Classes that are predicted are places in the
        # suite's label space, from 0.
        ("cell_id", _string),
        ("eval_dataset", _string),
        ("corruption", _string),
        ("severity", _int),
        ("image", _string),  # its file below the split's folder
        ("label", _string),  # its class, as the data set calls it
        ("targets", _classes),  # the predictions that are right
        # Over the data set's own classes (its class mask).
        ("top1", pa.int16()),
        ("correct", _bool),
        ("probability", pa.float32()),  # of top1
        # Over the whole label space.
        ("top1_unmasked", pa.int16()),
        ("correct_unmasked", _bool),
        ("probability_unmasked", pa.float32()),
        # The most probable classes, the first of equals first.
        ("top", _classes),  # over the whole label space
        ("top_masked", _classes),  # over the set's own; null where those are the whole label space
        ("top1_within", _classes),  # over each set of classes that the suite declares, in its order
        ("dataset_digest", _string),
    ]
)

TABLES: dict[str, pa.Schema] = {
    "accuracy": ACCURACY,
    "attempts": ATTEMPTS,
    "cleared": CLEARED,
    "history": HISTORY,
    "tuning": TUNING,
    "distances": DISTANCES,
    "predictions": PREDICTIONS,
}

KEYS: dict[str, list[str]] = {
    "accuracy": [
        *("cell_id", "epoch", "eval_dataset", "corruption", "severity"),
        *("subset_fraction", "subset_seed"),  # lest a part of the images hide another one
    ],
    "attempts": ["cell_id", "attempt"],
    "cleared": ["clearing", "cell_id"],
    "history": ["cell_id", "epoch"],
    "tuning": ["search", "trial"],
    "distances": ["cell_id"],
    "predictions": ["cell_id", "eval_dataset", "corruption", "severity", "image"],
}
"""What identifies a row; a table holds one row per key."""
