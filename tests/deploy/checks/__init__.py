from pathlib import Path

__all__ = [file.stem for file in Path(__file__).parent.glob("*.py") if file.stem != "__init__"]
