"use strict";
// Decoders of compressed meshes for <model-viewer>, from this server.
{
  const decoders = document.currentScript.dataset.decoders;
  self.ModelViewerElement = {
    dracoDecoderLocation: decoders,
    meshoptDecoderLocation: `${decoders}meshopt_decoder.js`,
  };
}
