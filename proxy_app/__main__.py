"""
`python -m proxy_app`: the command line, where the script `relay` is not installed.
"""

from proxy_app.cli import main

if __name__ == "__main__":
    main(prog_name="relay")
