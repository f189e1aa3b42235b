import express from "express";
import helmet from "helmet";
import morgan from "morgan";
import pg from "pg";

const VERSION = "first";

// A pool connects when it is first asked; without DATABASE_URL nobody asks it.
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });

const app = express();
app.use(helmet());
app.use(morgan("tiny"));
app.get("/", (_, response) => response.send(VERSION));
app.get("/orders", async (_, response) => {
  const { rows } = await pool.query("select count(*) from orders");
  response.json(rows[0]);
});
app.listen(process.env.PORT);
