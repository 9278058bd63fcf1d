"""To the optimum: batched L-BFGS, conditioned, with a certificate."""
