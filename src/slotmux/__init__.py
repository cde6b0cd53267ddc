"""The import name of the folders server/, runtime/, kernels/ and deploy/, which the links beside
this file point to: installers, type checkers and editors see one package."""
