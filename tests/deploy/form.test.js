// What the portal form takes as it is typed: its patterns are those of JavaScript.
'use strict';

const assert = require('node:assert');
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const test = require('node:test');

const form = JSON.parse(readFileSync(join(__dirname, '../../createUiDefinition.json'), 'utf8'));

const guid = ['0f8fad5b-d9cb-469f-a165-70867728950e', '0F8FAD5B-D9CB-469F-A165-70867728950E'];
const noGuid = ['contoso', '0f8fad5b', '0f8fad5b-d9cb-469f-a165-70867728950', ' 0f8fad5b-d9cb-469f-a165-70867728950e'];
const column = [['site', 'a1_B'], ['1a', '_a', 'a-b', 'a b', 'a'.repeat(46)]];

// Name of the field (of a grid: and of the column) → [what it takes, what it refuses].
const examples = {
  name: [['sentinel-connector', 'ab', 'a1'], ['a', 'A1', '1a', 'a-', 'a_b', 'a'.repeat(41)]],
  login: [['api@contoso.example'], ['api', 'api @contoso.example', '@', 'a@', 'a@b@c']],
  password: [['p', 'correct horse & battery'], ['p'.repeat(257), ' p', 'p ', 'p\n']],
  initialHistory: [['24h', '30d', '1h'], ['24', 'h', '0h', '1w', '24 h', '-1d']],
  tenantId: [guid, noGuid],
  clientId: [guid, noGuid],
  objectId: [guid, noGuid],
  clientSecret: [['abc~D.e_f'], [guid[0], 'a b']],
  'moreColumns.name': column,
  'moreIncidentColumns.name': column,
  transformDetections: [['source', "source | where severityLevel != 'low'", 'source\n| take 9'], ['IntegrationTable_CL', 'sourcery', `source | ${'a'.repeat(15001)}`]],
  transformIncidents: [['source', "source | where severity != 'low'"], ['| where 1 == 1', 'sources | take 1', `source | ${'a'.repeat(15001)}`]],
  alertEmail: [['soc@contoso.example'], ['soc', 'soc@contoso', 'a b@contoso.example']],
  addressPrefix: [['10.77.0.0/24', '192.168.0.0/26', '172.16.0.0/8'], ['10.77.0.0', '10.77.0.0/27', '10.77.0/24', '10.256.0.0/24', '10.0.0.0/7']],
  'moreSettings.name': [['LOG_LEVEL', 'AzureWebJobsStorage__blobServiceUri'], ['1A', 'A-B', 'A B']],
  'moreSettings.value': [['hosts', 'a b'], ['a\nb']],
  huntingTables: [['DeviceEvents', 'DeviceEvents,EmailEvents', 'DeviceEvents, EmailEvents'], ['DeviceEvents,', ',', 'Device Events', 'DeviceEvents;EmailEvents']],
  packageUri: [['https://contoso.example/a.zip'], ['http://contoso.example/a.zip', 'contoso', 'https://']],
};

// Fields of two steps may have the same name; then they have the same examples.
function patterns() {
  const found = new Map();
  const add = (name, constraints) => {
    const all = [constraints?.regex, ...(constraints?.validations ?? []).map((one) => one.regex)];
    const given = all.filter(Boolean).map((pattern) => new RegExp(pattern));
    if (given.length > 0) found.set(name, [...(found.get(name) ?? []), ...given]);
  };
  const { basics, steps } = form.parameters;
  for (const element of [...basics, ...steps.flatMap((step) => step.elements)]) {
    add(element.name, element.constraints);
    for (const column of element.constraints?.columns ?? []) {
      add(`${element.name}.${column.id}`, column.element.constraints);
    }
  }
  return found;
}

test('every pattern has examples', () => {
  assert.deepStrictEqual([...patterns().keys()].sort(), Object.keys(examples).sort());
});

for (const [name, given] of patterns()) {
  test(`${name} takes what is right and refuses what is wrong`, () => {
    const [right, wrong] = examples[name] ?? [[], []];
    assert.ok(right.length > 0 && wrong.length > 0);
    const takes = (text) => given.every((pattern) => pattern.test(text));
    for (const text of right) assert.ok(takes(text), `${text} is right`);
    for (const text of wrong) assert.ok(!takes(text), `${text} is wrong`);
  });
}

for (const [name, given] of patterns()) {
  test(`${name} is bounded: nothing that goes on and on is taken`, () => {
    for (const text of examples[name][0]) {
      for (const letter of ['a', '0', text.at(-1), `,${text}`]) {
        const endless = text + letter.repeat(20000);
        assert.ok(!given.every((pattern) => pattern.test(endless)), `${text} and 20,000 times ${letter}`);
        assert.ok(!given.every((pattern) => pattern.test(letter.repeat(20000) + text)), `20,000 times ${letter} and ${text}`);
      }
    }
  });
}

test('what is secret and what is an id is checked in form and template alike', () => {
  const template = JSON.parse(readFileSync(join(__dirname, '../../azuredeploy.json'), 'utf8'));
  const checked = Object.entries(template.parameters).filter(([name, { type }]) => type === 'securestring' || /Id$/.test(name));
  assert.ok(checked.length >= 9, `${checked.length}`);
  for (const [name, { maxLength }] of checked) assert.ok(maxLength >= 36 && maxLength <= 512, `${name} has no length`);
});

// A press of the button names the deployment by the time, the command line by the file.
test('no page asks for the deployment of the app by a name that only one way of deploying gives it', () => {
  for (const page of ['README.md', 'docs/deploy.md', 'docs/operate.md', 'docs/stock-connector.md', 'docs/defender.md']) {
    const text = readFileSync(join(__dirname, '../..', page), 'utf8');
    assert.doesNotMatch(text, /az deployment group (show|delete|wait|export)|az deployment group create -g GROUP (-n|--name) /, page);
  }
  const deploy = readFileSync(join(__dirname, '../../docs/deploy.md'), 'utf8');
  assert.match(deploy, /az deployment group list[^`]*properties\.outputs\.identityPrincipalId/);
});
