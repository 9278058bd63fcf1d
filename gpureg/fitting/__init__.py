"""From a data set and options to a result."""
