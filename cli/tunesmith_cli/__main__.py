"""`python -m tunesmith_cli`: the command line without its installed script."""

from tunesmith_cli.commands.main import main

if __name__ == "__main__":
    main()
