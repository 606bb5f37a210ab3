#!/usr/bin/env node
// Sets a document and waits for the end of its job; ends with 0 if all of it holds.
// Usage: set-document.js FILE       (needs dbus-next: npm install dbus-next)
'use strict';

const { readFileSync } = require('node:fs');
const dbus = require('dbus-next');

const NAME = 'org.opdbus';

async function main(file) {
  const bus = dbus.systemBus();
  try {
    const state = (await bus.getProxyObject(NAME, '/org/opdbus/state')).getInterface('org.opdbus.State');
    const [generation, path] = await state.SetDesiredState(readFileSync(file, 'utf8'));
    const object = await bus.getProxyObject(NAME, path);
    // dbus-next waits for an answer as long as it takes.
    const result = await object.getInterface('org.opdbus.Job').Wait();
    const properties = object.getInterface('org.freedesktop.DBus.Properties');
    const message = await properties.Get('org.opdbus.Job', 'Message');
    console.log(`generation ${generation}, ${result}: ${message.value}`);
    return ['done', 'unchanged'].includes(result) ? 0 : 1;
  } finally {
    bus.disconnect();
  }
}

main(process.argv[2]).then(
  (status) => { process.exitCode = status; },
  (error) => {
    // Of a document with faults each is a line, with its place.
    console.error(error.text ?? error.message);
    process.exitCode = 1;
  },
);
