"""The laboratories of Angel's thesis (2021): experiments that bring their own data."""
