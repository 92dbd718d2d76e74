"""The images below a folder by stem, in tars too."""

from pathlib import Path

from baa.data.read.file import ImageFile
from baa.data.sources._tar import tar_images
from baa.names import is_mac_attributes

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class ImageIndex:
    """The images below a folder. Those in tars count only for stems that no loose file has.

    Args:
        root: the folder.

    Raises:
        InputError: a tar is compressed, truncated or damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: dict[str, list[ImageFile]] = {}
        self.unusable: dict[str, str] = {}
        for tar in sorted(root.rglob("*.tar")):
            if tar.is_file() and not is_mac_attributes(tar.relative_to(root)):
                self._add_tar(tar)
        loose: dict[str, list[ImageFile]] = {}
        for path in sorted(root.rglob("*")):
            named = path.suffix.lower() in IMAGE_SUFFIXES and not is_mac_attributes(path.relative_to(root))
            if named and path.is_file():
                loose.setdefault(path.stem, []).append(ImageFile(path))
        self.images |= loose

    def _add_tar(self, tar: Path) -> None:
        for image, unusable in tar_images(tar):
            member = Path(image.member)
            if member.suffix.lower() in IMAGE_SUFFIXES and not is_mac_attributes(member):
                if unusable:
                    self.unusable[member.stem] = f"{image.name} {unusable}"
                else:
                    self.images.setdefault(member.stem, []).append(image)

    def find(self, stem: str) -> ImageFile | None:
        """Return the image of a stem, the first of equal ones, or None.

        Raises:
            ValueError: it has several images that differ, or one that cannot be read in place.
        """
        found = self.images.get(stem, [])
        if not found and stem in self.unusable:
            raise ValueError(self.unusable[stem])
        if len(found) > 1 and len({image.fingerprint() for image in found}) > 1:
            raise ValueError(f"it has several images, {found[0].name} and {found[1].name}; keep one of them in {self.root}")
        return found[0] if found else None
