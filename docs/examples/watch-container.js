#!/usr/bin/env node
// Prints how a container stands: now, and at each change, until it is stopped. Anybody may.
// Usage: watch-container.js ID      (needs dbus-next: npm install dbus-next)
'use strict';

const dbus = require('dbus-next');

const NAME = 'org.opdbus';

async function main(id) {
  const bus = dbus.systemBus();
  const state = (await bus.getProxyObject(NAME, '/org/opdbus/state')).getInterface('org.opdbus.State');
  // Paths are not put together by hand: op-dbus escapes names, and tells the path of each resource.
  const text = (value) => new dbus.Variant('s', value);
  const [found] = await state.ListResources({ kind: text('container'), 'name-prefix': text(id) }, '', 1, {});
  if (found.length === 0 || found[0][2] !== id) throw new Error(`there is no container ${id}`);
  const object = await bus.getProxyObject(NAME, found[0][0]);
  const properties = object.getInterface('org.freedesktop.DBus.Properties');
  let last = '';

  const show = async () => {
    const running = (await properties.Get('org.opdbus.Container', 'Running')).value;
    const status = (await properties.Get('org.opdbus.Resource', 'Status')).value;
    const now = `container ${id}: running ${running}, ${status}`;
    // One change of a container is a signal for each of its two interfaces.
    if (now !== last) console.log(now);
    last = now;
  };

  // First the match for the signal, then the look: what happens in between is not missed.
  properties.on('PropertiesChanged', show);
  await show();
}

main(process.argv[2]).catch((error) => {
  console.error(error.text ?? error.message);
  // The open connection would keep it waiting for ever.
  process.exit(1);
});
