"""The stage that cuts the subject out of its background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from dna_pipeline.base.errors import EmptyForeground
from dna_pipeline.base.files import Artifact
from dna_pipeline.providers.base import CompilesMatting, Device, ReviewsMatte
from dna_pipeline.stages.base import Stage, StageContext

if TYPE_CHECKING:
    from PIL import Image

    from dna_pipeline.media.alpha import Transparency
    from dna_pipeline.providers.base import Matting

LEAST_FOREGROUND = 0.0005
"""Least share of the picture that a subject must cover; below it, the cut-out counts as empty."""
BACKDROP = (127, 127, 127)
"""Grey (RGB) that the model sees behind a subject that is cut out already."""


class RemoveBackground(Stage):
    """Writes `<stem>.matte.png`: the subject's colours, with the background transparent."""

    type: ClassVar[str] = "remove_background"
    file_words: ClassVar[frozenset[str]] = frozenset({"matte"})
    weight: ClassVar[float] = 0.1
    asks_for_device: ClassVar[bool] = True

    force: bool = Field(
        False, description="also cut an image that is cut out already, within what it shows"
    )
    alpha_matting: bool = Field(
        False, description="refine the edge pixel by pixel; slow, better for hair and fur"
    )

    def is_ready(self, model: Any) -> bool:
        return not self.alpha_matting or not isinstance(model, CompilesMatting) or model.is_compiled

    def prepare(self, model: Any) -> None:
        if self.alpha_matting and isinstance(model, CompilesMatting):
            model.compile_matting()

    def run(self, ctx: StageContext) -> list[Artifact]:
        """Write the cut-out.

        Raises:
            EmptyForeground: (nearly) nothing of the picture is left.
            JobError: the model's own errors.
        """
        from dna_pipeline.media.alpha import Transparency  # the daemon loads no decoder
        from dna_pipeline.media.images import load_image, save_png
        from dna_pipeline.media.matte import foreground_share

        image = load_image(ctx.source, ctx.warnings)
        transparency = Transparency.of(image)
        keeps_alpha = transparency.is_cut_out and not self.force
        if keeps_alpha:
            ctx.computed_on = Device("cpu", "uint8")
            if transparency.is_doubtful:
                ctx.warnings.append(_why_kept(transparency))
        elif image.mode == "RGBA" and not self.force:
            ctx.warnings.append(_why_cut(transparency))
        cutout = image if keeps_alpha else self._cut(image, transparency, ctx)
        share = foreground_share(cutout)
        if share < LEAST_FOREGROUND:
            raise EmptyForeground(f"{share:.3%} of the image is left")
        if share > 1 - LEAST_FOREGROUND or (not keeps_alpha and _is_whole(share, image)):
            ctx.warnings.append("The whole image was taken for the subject; nothing was removed.")
        ctx.on_step(1, 1)
        path = ctx.path(".matte.png")
        save_png(cutout, path)
        facts: dict[str, Any] = {"foreground_fraction": round(share, 4), "already_cut": keeps_alpha}
        facts |= {"width": cutout.width, "height": cutout.height}
        return [Artifact(path, "matte", "image/png", facts)]

    def _cut(
        self, image: Image.Image, transparency: Transparency, ctx: StageContext
    ) -> Image.Image:
        from PIL import ImageChops

        from dna_pipeline.media.matte import cut_out

        shown = _shown(image, transparency)
        alpha = ctx.on_device(lambda: self._alpha(shown, ctx))
        if image.mode == "RGBA":
            alpha = ImageChops.darker(alpha, image.getchannel("A"))
        return cut_out(image.convert("RGB"), alpha)

    def _alpha(self, shown: Image.Image, ctx: StageContext) -> Image.Image:
        assert self.model is not None, "checked when the pipeline was built"
        matting: Matting = ctx.models.get(self.model)
        alpha = matting.alpha(shown, alpha_matting=self.alpha_matting)
        if isinstance(matting, ReviewsMatte):
            ctx.warnings += matting.remarks(shown, alpha)
        return alpha


def _why_cut(transparency: Transparency) -> str:
    """The sentence about a picture that has some transparency and is cut all the same."""
    from dna_pipeline.media.alpha import LEAST_BORDER_SHARE, LEAST_SHARE

    return (
        f"The picture's alpha is no cut-out: {transparency.share:.1%} of its pixels and "
        f"{transparency.border_share:.0%} of those at its border are transparent, where a cut-out "
        f"has at least {LEAST_SHARE:.0%} and {LEAST_BORDER_SHARE:.0%}. So the background was "
        "removed, within what the alpha shows."
    )


def _why_kept(transparency: Transparency) -> str:
    """The sentence about a picture that counts as cut out and does not look so."""
    return (
        "The picture's own transparency was taken for the cut-out, although it shows "
        f"{1 - transparency.share:.0%} of the picture and at least "
        f"{transparency.least_side_shown:.0%} of each side. If that is the shape of the picture, "
        "as of an app icon, `force: true` cuts again."
    )


def _is_whole(share: float, image: Image.Image) -> bool:
    """True if a cut left all that the picture (RGB or RGBA) showed before."""
    from dna_pipeline.media.matte import foreground_share

    return image.mode == "RGBA" and share > foreground_share(image) * (1 - LEAST_FOREGROUND)


def _shown(image: Image.Image, transparency: Transparency) -> Image.Image:
    """The picture in RGB, as the model sees it: transparent pixels are grey if the subject is cut
    out already, else they take the colour beside them."""
    if image.mode == "RGB":
        return image
    if not transparency.is_cut_out:
        from dna_pipeline.media.matte import filled

        return filled(image)
    from PIL import Image

    backdrop = Image.new("RGB", image.size, BACKDROP)
    backdrop.paste(image, mask=image.getchannel("A"))
    return backdrop
