"""What every service of the trio does alike: settings from the environment, log lines, problems over ASGI."""
