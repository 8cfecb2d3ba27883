"""The inspector: is it safe, and is it informed, to prune here? A second dock, of tabs."""
