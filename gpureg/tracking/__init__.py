"""Trackers: observers of a fit that log it to MLflow or TensorBoard, one run for each fit."""

from gpureg.tracking.mlflow import MLflowTracker
from gpureg.tracking.tensorboard import TensorBoardTracker
from gpureg.tracking.tracker import Tracker

__all__ = ["MLflowTracker", "TensorBoardTracker", "Tracker"]
