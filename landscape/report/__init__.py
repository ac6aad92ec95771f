"""One page of HTML that shows what was found."""
