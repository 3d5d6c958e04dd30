// The form after another goal or base was chosen. `presets`: by goal and base (or `other`) the settings that the goal sets;
// `paths`: the settings of the fields in order. With `keepOwn`, a field with a value that the goal has for no base stays.
(presets, paths, other, keepOwn) => (goal, base, ...now) => {
  const byBase = presets[goal] ?? {};
  const wanted = byBase[base] ?? byBase[other] ?? {};
  return paths.map((path, i) => {
    const own = !Object.values(byBase).some((values) => values[path] === now[i]);
    return path in wanted && !(keepOwn && own) ? wanted[path] : now[i];
  });
}
