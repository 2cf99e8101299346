// nodemailer: send.mjs HOST PORT USER KEY FROM TO CA_FILE < raw message
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
const nodemailer = createRequire(process.env.PEERS + '/')('nodemailer');
const [host, port, user, pass, from, to, ca] = process.argv.slice(2);
const transport = nodemailer.createTransport({ host, port: Number(port), requireTLS: true, auth: { user, pass }, tls: { ca: readFileSync(ca) } });
const sent = await transport.sendMail({ envelope: { from, to: [to] }, raw: readFileSync(0) });
console.log(sent.response);
