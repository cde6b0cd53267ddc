"""The import name of the folders server/, runtime/ and kernels/, which the links beside this file
point to: installers, type checkers and editors see one package where the repository has three."""
