"""What guest kernels do with the memory they share with Xen, as functions over a domain.

Xen learns of none of this until it looks at the memory again.
"""
