"""Model families, one file each, behind the seam of `spec.FamilySpec`."""
