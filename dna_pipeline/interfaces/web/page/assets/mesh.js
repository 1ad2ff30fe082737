"use strict";
// Decoders of compressed meshes for <model-viewer>, from this server.
{
  const decoders = document.currentScript.dataset.decoders;
  const locations = {
    dracoDecoderLocation: decoders,
    meshoptDecoderLocation: `${decoders}meshopt_decoder.js`,
  };
  // The viewer's script puts an object of its own in the place of this global before it reads the
  // locations from there. So they are added to each object that is put there.
  let viewer = locations;
  Object.defineProperty(self, "ModelViewerElement", {
    get: () => viewer,
    set: (given) => { viewer = Object.assign(given, locations); },
  });
}
