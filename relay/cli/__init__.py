"""relay(1) and sendmail(1).

`main` holds the command group and what every command shares: `--config`, `--json`, running an act, printing errors. The other files are one noun each. A file
here imports click and the standard library at the top and everything else inside its functions, so that `relay --help` and shell completion are instant.
"""
