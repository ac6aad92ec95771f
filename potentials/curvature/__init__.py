"""Second derivatives of losses: routes to products with the Hessian and its relatives, and scores of single samples."""
