"""The solvers: `sgd` (the report's minibatch gradient descent with early stopping) and `lbfgs` (to the optimum)."""
