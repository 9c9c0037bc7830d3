"""The nouns: frozen values and their file formats. Nothing here touches the world."""
