// Makes elements, and keeps them as they are where nothing about them has changed.

// Data only ever becomes text: elements are made here, and filled through textContent.
export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setClass(element, name) {
  if (element.className !== name) element.className = name;
}

// Makes the children of an element those of a list, by key: what stays is updated in its place.
export function sync(parent, items, key, create, update) {
  const old = new Map();
  for (const child of parent.children) if (child.dataset.key !== undefined) old.set(child.dataset.key, child);
  let next = [...parent.children].find((child) => child.dataset.key !== undefined) ?? null;
  for (const item of items) {
    const name = key(item);
    let node = old.get(name);
    if (node) old.delete(name);
    else { node = create(item); node.dataset.key = name; }
    if (node === next) next = next.nextElementSibling;
    else parent.insertBefore(node, next);
    update(node, item);
  }
  for (const node of old.values()) node.remove();
}

export function setBar(bar, fraction) {
  bar.hidden = fraction === null;
  if (fraction !== null && bar.value !== fraction) bar.value = fraction;
}
