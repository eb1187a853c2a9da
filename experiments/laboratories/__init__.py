"""The thesis's laboratories: experiments that bring their own data."""
