"""The keys of the JSON result, schema 2: all of them are always there."""

HEAD = {
    "schema", "task", "dataset", "device", "device_requested", "backend", "dtype", "solver", "seed", "n_train", "n_val",
    "n_features", "feature_names", "image_shape", "classes", "seconds", "run_dir", "warnings", "models", "selected",
    "cv", "left_out", "test",
}  # fmt: skip
MODEL = {
    "l2", "lr", "fold", "seed", "steps", "stopped_epoch", "stop_reason", "train_loss", "val_loss", "train_accuracy",
    "val_accuracy", "weight_norm_sq", "certificate",
}  # fmt: skip
CV = {"l2", "lr", "mean", "se", "folds", "score"}
