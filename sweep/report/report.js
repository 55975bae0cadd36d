"use strict";
for (const button of document.querySelectorAll("button[data-copies]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copies);
    let done = true;
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      done = document.execCommand("copy");
    }
    const said = done ? "Copied" : "Selected: press Ctrl+C";
    button.textContent = said;
    document.getElementById("said").textContent = said;
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
