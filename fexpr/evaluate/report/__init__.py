"""From numbers to pages: words, figures, pages, model card, their templates."""
