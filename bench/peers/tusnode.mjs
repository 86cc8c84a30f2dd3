// @tus/server with its file store. Packages are looked for below the directory where this is run.
import { createRequire } from 'node:module'

const from = createRequire(`${process.cwd()}/here.js`)
const { Server } = await import(from.resolve('@tus/server'))
const { FileStore } = await import(from.resolve('@tus/file-store'))
new Server({ path: '/files', datastore: new FileStore({ directory: process.env.STORE }) })
  .listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
