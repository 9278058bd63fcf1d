"""scikit-learn's own tests with other classes in the place of its two: the plugin, the runs, and what is left out."""
