"""One trial: launch a configuration's server, put it under load, and return a record of what was measured.

It measures what it is given; it chooses no configuration and stores no record. Public are `trial.run_trial` with its
`TrialRequest` and `TrialSetup`, `server` and `services` (what is loaded), `pool` (trials at the same time),
`bottleneck` and `evidence`.
"""
