// Fetches the page again every second and puts its live part in place of the old one. Without this it is a plain page.
(() => {
  const live = document.querySelector("[data-live]");
  if (!live || live.dataset.live === "done") return;
  let busy = false;
  const refresh = async () => {
    // Nobody looks, or somebody is copying an id.
    if (busy || document.hidden || String(getSelection())) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("[data-live]");
      if (fresh) {
        const focused = live.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
        live.replaceChildren(...fresh.childNodes);
        if (focused) live.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
        if (fresh.dataset.live === "done") clearInterval(timer);
      }
      document.body.classList.remove("lost");
    } catch {
      document.body.classList.add("lost");
    } finally {
      busy = false;
    }
  };
  const timer = setInterval(refresh, 1000);
  document.body.classList.add("scripted");
})();
