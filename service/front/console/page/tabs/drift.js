// What drifted: the evidence of every stream over time, and the bins of the reference beside the live ones.

export const tab = { name: "drift", title: "Drift", start };

function start(element) {
  element.textContent = "…";
}
