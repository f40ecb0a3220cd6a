"""`python -m channelpay` is the command `channelpay`."""

from channelpay.cli import main

if __name__ == "__main__":
    main()
