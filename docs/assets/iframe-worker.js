// A browser lets no page that is opened from a folder start a worker, which the search runs in.
// There, a hidden frame takes its place.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      script.src = url;
      const isLoaded = new Promise((loaded) => script.addEventListener("load", loaded));
      inside.document.body.append(script);
      this.postMessage = async (data) => {
        await isLoaded;
        inside.dispatchEvent(new MessageEvent("message", { data }));
      };
    }
  };
}
