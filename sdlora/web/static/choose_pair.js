// “Compare” in a row of the Library: the first LoRA, then the second, then from the start. Runs in the browser, so that two quick
// clicks count as two.
(first, second) => {
  const id = document.querySelector("#library-shelf [data-last]").dataset.last;
  return first && !second && first !== id ? [first, id] : [id, ""];
}
