"""Settings and the plan: what every setting means, how it is read, and what is to be run because of it."""
