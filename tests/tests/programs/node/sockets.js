// Prints what it saw of http, net, dgram, cluster, worker threads and handles sent to children.
'use strict';

const assert = require('assert');
const { fork } = require('child_process');
const cluster = require('cluster');
const crypto = require('crypto');
const dgram = require('dgram');
const { once } = require('events');
const http = require('http');
const net = require('net');
const os = require('os');
const path = require('path');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

async function overHttp() {
  const server = http.createServer((request, response) => {
    const hash = crypto.createHash('sha256');
    request.on('data', (chunk) => hash.update(chunk));
    request.on('end', () => response.end(hash.digest('hex')));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = `http://127.0.0.1:${server.address().port}/`;
  const bodies = Array.from({ length: 20 }, (_, n) => Buffer.alloc(n * 50_000, n));
  const answers = await Promise.all(bodies.map(async (body) => {
    const answer = await fetch(url, { method: 'POST', body, headers: { connection: 'close' } });
    return await answer.text() === crypto.createHash('sha256').update(body).digest('hex');
  }));
  console.log('http', answers.every(Boolean), answers.length);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

async function overNet(host) {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  await once(server.listen(0, host), 'listening');
  const { port, family } = server.address();
  const echoes = await Promise.all(Array.from({ length: 10 }, async (_, n) => {
    const socket = net.connect({ port, host, noDelay: true, keepAlive: true });
    const content = crypto.randomBytes(100_000 + n);
    socket.end(content);
    const chunks = [];
    for await (const chunk of socket) chunks.push(chunk);
    return Buffer.concat(chunks).equals(content);
  }));
  console.log('net', family, echoes.every(Boolean));
  server.close();
  await once(server, 'close');
  const refused = net.connect(port, host);
  const [error] = await once(refused, 'error');
  console.log(error.code, error.syscall);
}

async function overPipes() {
  const name = path.join(os.tmpdir(), `dmm-node-${process.pid}`);
  const server = net.createServer((socket) => socket.end('over a pipe'));
  await once(server.listen(name), 'listening');
  const socket = net.connect(name);
  let text = '';
  for await (const chunk of socket) text += chunk;
  console.log(text);
  server.close();
}

async function overDatagrams() {
  const server = dgram.createSocket('udp4');
  server.on('message', (message, from) => server.send(message.reverse(), from.port, from.address));
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  const client = dgram.createSocket('udp4');
  client.connect(server.address().port, '127.0.0.1');
  await once(client, 'connect');
  for (let n = 0; n < 5; n += 1) {
    client.send(`datagram ${n}`);
    const [answer] = await once(client, 'message');
    console.log(answer.toString());
  }
  client.close();
  server.close();
}

async function overCluster() {
  cluster.setupPrimary({ args: ['--worker'] });
  for (const policy of [cluster.SCHED_RR, cluster.SCHED_NONE]) {
    cluster.schedulingPolicy = policy;
    const workers = [cluster.fork(), cluster.fork()];
    const ports = await Promise.all(workers.map(async (worker) => (await once(worker, 'message'))[0]));
    assert.strictEqual(ports[0], ports[1]);
    const answers = await Promise.all(Array.from({ length: 30 }, async () => {
      const answer = await fetch(`http://127.0.0.1:${ports[0]}/`, { headers: { connection: 'close' } });
      return answer.text();
    }));
    console.log('cluster', answers.every((text) => text === 'from a worker'));
    // A worker that is killed is replaced, and the port is served all the while.
    workers[0].process.kill('SIGKILL');
    await once(workers[0], 'exit');
    const answer = await fetch(`http://127.0.0.1:${ports[0]}/`, { headers: { connection: 'close' } });
    console.log(await answer.text());
    workers[1].kill();
    await once(workers[1], 'exit');
  }
}

async function sentToChild() {
  const child = fork(__filename, ['--child']);
  const server = net.createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  child.send('listener', server);
  await once(child, 'message');
  const { port } = server.address();
  server.close();
  const socket = net.connect(port, '127.0.0.1');
  let text = '';
  for await (const chunk of socket) text += chunk;
  console.log(text);
  child.disconnect();
  await once(child, 'exit');
}

async function overThreads() {
  const server = net.createServer((socket) => socket.end('to a thread'));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const threads = Array.from({ length: 4 }, () => new Worker(__filename, { workerData: server.address().port }));
  const texts = await Promise.all(threads.map(async (thread) => (await once(thread, 'message'))[0]));
  console.log(texts.join());
  server.close();
}

async function main() {
  await overHttp();
  await overNet('127.0.0.1');
  await overNet('::1');
  await overPipes();
  await overDatagrams();
  await overCluster();
  await sentToChild();
  await overThreads();
  console.log('node done');
}

if (!isMainThread) {
  const socket = net.connect(workerData, '127.0.0.1');
  let text = '';
  socket.on('data', (chunk) => { text += chunk; });
  socket.on('end', () => parentPort.postMessage(text));
} else if (process.argv[2] === '--worker') {
  const server = http.createServer((_, response) => response.end('from a worker'));
  server.listen(0, '127.0.0.1', () => process.send(server.address().port));
} else if (process.argv[2] === '--child') {
  process.on('message', (_, server) => {
    server.on('connection', (socket) => { socket.end('from a child'); server.close(); });
    process.send('ready');
  });
} else {
  main();
}
